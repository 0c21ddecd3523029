"""The numbers of examples/evaluate.py, computed once more from features.pt with other programs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from training import METHODS

pytestmark = pytest.mark.slow
KINDS = ("clean", "blur", "colour jitter", "crop 0.05-1", "crop 0.05-0.2", "noise 0.5", "cut-out")


@pytest.fixture(scope="module")
def run(evaluated, run_folders):
    """The features and the report's sections of one run."""

    def of(name):
        features = torch.load(run_folders[name] / "features.pt", weights_only=True)
        return features["parts"], evaluated[1]["runs"][name]["sections"]

    return of


def knn_of_sklearn(y, label, k):
    from sklearn.neighbors import KNeighborsClassifier

    knn = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp(-distance / 0.07)
    )
    return knn.fit(y.numpy(), label.numpy())


def auroc(correct, score):
    """All pairs of a right and a wrong answer."""
    right, wrong = score[correct][:, None].double(), score[~correct].double()
    return ((right > wrong).double() + (right == wrong).double() / 2).mean().item()


def correct_of(parts, classifier, kind):
    return parts[classifier][kind]["label"] == parts["test"]["label"]


def test_the_features_are_those_of_the_checkpoint(example, run_folders, run):
    from vi_simsiam.data import load
    from vi_simsiam.evaluate import whole
    from vi_simsiam.methods import METHODS as CLASSES
    from vi_simsiam.model import build_network

    parts, _ = run("vi-simsiam")
    state = torch.load(run_folders["vi-simsiam"] / "checkpoint.pt", weights_only=True)
    network = build_network(CLASSES["vi-simsiam"], state["settings"])
    network.load_state_dict(state["model"])
    data = load("digits", None)
    with torch.no_grad():
        out = network.eval()(whole(data.test_images.float() / 255, 16))
    rows = parts["test"]["rows"]
    assert torch.equal(rows.sort().values, torch.arange(len(data.test_images)))
    clean = parts["test"]["clean"]
    torch.testing.assert_close(clean["y"], out.y[rows], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(clean["scores"]["kappa"], out.kappa[rows], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(clean["scores"]["norm of mu"], out.mu[rows].norm(dim=1))
    assert torch.equal(parts["test"]["label"], data.test_labels[rows])
    assert len(parts["train"]["y"]) == len(data.train_images)


@pytest.mark.parametrize("method", METHODS)
def test_knn(run, method):
    parts, sections = run(method)
    knn, train, test = sections["knn"], parts["train"], parts["test"]
    other = knn_of_sklearn(train["y"], train["label"], knn["k"])
    every = []
    for kind in KINDS:
        right = other.predict(test[kind]["y"].numpy()) == test["label"].numpy()
        assert knn["accuracy"][kind] == pytest.approx(right.mean(), abs=0.006)  # ties
        every.append(right)
    assert knn["accuracy"]["damaged"] == pytest.approx(np.mean(every), abs=0.003)

    order = torch.randperm(len(train["y"]), generator=torch.Generator().manual_seed(1))
    n = len(order) // 5
    tune, fit = order[:n], order[n:]
    for k, accuracy in zip(knn["ks"][::4], knn["accuracy_by_k"][::4], strict=True):
        other = knn_of_sklearn(train["y"][fit], train["label"][fit], k)
        right = other.predict(train["y"][tune].numpy()) == train["label"][tune].numpy()
        assert accuracy == pytest.approx(right.mean(), abs=0.006)
    assert knn["accuracy_by_k"][knn["ks"].index(knn["k"])] == max(knn["accuracy_by_k"])


def test_confidences_of_knn(run):
    parts, _ = run("simclr")
    k, bank = parts["knn"]["tuned"]["k"], parts["train"]
    similarity = F.normalize(parts["test"]["blur"]["y"][7], dim=0) @ F.normalize(bank["y"], dim=1).T
    top = similarity.sort(descending=True)
    votes = torch.zeros(10)
    for s, row in zip(top.values[:k], top.indices[:k], strict=True):
        votes[bank["label"][row]] += (s / 0.07).exp()
    found = parts["knn"]["blur"]
    assert found["share"][7].item() == pytest.approx((votes.max() / votes.sum()).item(), rel=1e-3)
    assert found["nearest"][7].item() == pytest.approx(top.values[0].item(), rel=1e-5)


def test_linear(run):
    parts, sections = run("barlow-twins")
    fitted = parts["linear"]["fitted"]
    logits = parts["test"]["cut-out"]["y"] @ fitted["weight"].T + fitted["bias"]
    right = logits.argmax(dim=1) == parts["test"]["label"]
    linear = sections["linear"]
    assert linear["accuracy"]["cut-out"] == pytest.approx(right.double().mean().item())
    probability = logits.softmax(dim=1).amax(dim=1)
    torch.testing.assert_close(parts["linear"]["cut-out"]["share"], probability)
    curve = fitted["accuracy"]
    assert linear["epochs"] == len(curve) == 100
    assert linear["best_epoch"] == 1 + int(np.argmax(curve))


def test_lars_learns_what_logistic_regression_does(example, monkeypatch):
    from sklearn.linear_model import LogisticRegression
    from vi_simsiam.evaluation import linear
    from vi_simsiam.evaluation.linear import fit_linear, predict_linear

    monkeypatch.setattr(linear, "FEWEST_STEPS", 10_000)  # other tests have fewer

    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 16, generator=generator)
    label = torch.randint(5, (4000,), generator=generator)
    y = (centres[label] + 1.3 * torch.randn(4000, 16, generator=generator)).relu()
    fitted = fit_linear(y[:3000], label[:3000], 5, torch.arange(2400), torch.arange(2400, 3000))
    ours = (predict_linear(fitted, y[3000:]).label == label[3000:]).double().mean().item()
    theirs = LogisticRegression(max_iter=1000).fit(y[:2400], label[:2400])
    assert ours > theirs.score(y[3000:], label[3000:]) - 0.02


@pytest.mark.parametrize(("method", "name"), [("vi-simsiam", "kappa"), ("dino", "negative entropy"),
                                              ("simsiam", "norm of mu")])  # fmt: skip
@pytest.mark.parametrize("classifier", ["knn", "linear"])
def test_auroc(run, method, name, classifier):
    from vi_simsiam.evaluation.correctness import p_of_auroc

    from powerspherical_ext.metrics import auroc as of_package
    from powerspherical_ext.metrics import permutation_test

    parts, sections = run(method)
    for test, kinds in (("clean", ["clean"]), ("damaged", KINDS)):
        score = torch.cat([parts["test"][kind]["scores"][name] for kind in kinds])
        correct = torch.cat([correct_of(parts, classifier, kind) for kind in kinds])
        found = sections["auroc"][classifier][test]
        row = found["confidences"][name]
        assert row["auroc"] == pytest.approx(auroc(correct, score), abs=1e-9)
        assert found["n"] == len(correct)
        curve = np.trapezoid(row["true_positive_rates"], np.linspace(0, 1, 51))
        assert curve == pytest.approx(row["auroc"], abs=0.01)
    score, correct = parts["test"]["clean"]["scores"][name], correct_of(parts, classifier, "clean")
    generator = torch.Generator().manual_seed(0)
    test = permutation_test(of_package, score, correct, n_shuffles=50, generator=generator)
    assert p_of_auroc(score, correct, 50) == test.p_value


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("classifier", ["knn", "linear"])
def test_augrc(run, method, classifier):
    """Against the definition: the errors among the k surest, for every k."""
    parts, sections = run(method)
    for test, kinds in (("clean", ["clean"]), ("damaged", KINDS)):
        correct = torch.cat([correct_of(parts, classifier, kind) for kind in kinds]).numpy()
        found = sections["augrc"][classifier][test]
        assert found["n"] == len(correct)
        assert found["random"] == pytest.approx((1 - correct.mean()) / 2)
        curve = np.cumsum(~np.sort(correct)[::-1])  # all right answers come first
        assert found["perfect"] == pytest.approx(area(curve), abs=1e-4)  # of a discrete curve
        for name in parts["test"]["clean"]["scores"]:
            score = torch.cat([parts["test"][kind]["scores"][name] for kind in kinds]).numpy()
            curve = np.cumsum(~correct[np.argsort(-score, kind="stable")])
            assert found["confidences"][name] == pytest.approx(area(curve), abs=1e-3)  # ties


def area(errors):
    """Under the generalised risks: the number of errors among the k surest over N, from k = 0."""
    return np.trapezoid(np.concatenate([[0], errors]) / len(errors)) / len(errors)


def test_tenths(run):
    from sklearn.linear_model import LogisticRegression

    parts, sections = run("vi-simsiam")
    score = parts["test"]["clean"]["scores"]["kappa"].double().numpy()
    correct = correct_of(parts, "linear", "clean").numpy()
    row = sections["tenths"]["linear"]["kappa"]
    tenths = np.array_split(correct[np.argsort(score)], 10)
    np.testing.assert_allclose(row["accuracy"], [part.mean() for part in tenths])
    assert row["right"]["mean"] == pytest.approx(score[correct].mean(), rel=1e-5)
    assert row["wrong"]["sd"] == pytest.approx(score[~correct].std(ddof=1), rel=1e-5)
    z = ((score - score.mean()) / score.std())[:, None]
    fit = LogisticRegression(C=1e8, tol=1e-8, max_iter=1000).fit(z, correct)
    assert row["slope"] == pytest.approx(fit.coef_[0, 0], abs=1e-3)
    assert 0 < row["p"] <= 1


def test_tenths_of_tied_confidences(example):
    from vi_simsiam.evaluation.correctness import in_tenths

    score = torch.tensor([0.0] * 10 + [1.0] * 10)
    correct = torch.tensor([True] * 2 + [False] * 8 + [True] * 10)
    assert in_tenths(score, correct) == pytest.approx([0.2] * 5 + [1.0] * 5)


def test_extremes(run):
    parts, sections = run("vi-simclr")
    score = parts["test"]["clean"]["scores"]["kappa"]
    extremes = sections["extremes"]
    assert extremes["of"] == "kappa"
    assert score[extremes["rows"]["highest"][0]] == score.max()
    assert score[extremes["rows"]["lowest"][0]] == score.min()
    correct = correct_of(parts, "knn", "clean")
    three = score.argsort()[:3]  # a hundredth of 360
    assert extremes["kappa"]["lowest"] == pytest.approx(correct[three].double().mean().item())


def test_augmentations(run):
    parts, sections = run("vi-simsiam")
    draws = parts["augmentations"]["crop 0.05-1"]["kappa"].double().numpy()
    clean = parts["augmentations"]["clean"]["kappa"].double().numpy()
    assert draws.shape == (5, 300)
    row = sections["augmentations"]["crop 0.05-1"]["kappa"]
    assert row["mean"] == pytest.approx(draws.mean(), rel=1e-5)
    assert row["sd"] == pytest.approx(draws.mean(axis=0).std(ddof=1), rel=1e-5)
    assert row["over_clean"] == pytest.approx(draws.mean() / clean.mean(), rel=1e-5)
    assert row["below_clean"] == pytest.approx((draws < clean).mean())
    assert np.ptp(clean, axis=0).max() == 0


def test_crops(run):
    parts, sections = run("vi-simsiam")
    fitted, crops = parts["linear"]["fitted"], parts["crops"]
    y, kappa = crops["y"].numpy(), crops["scores"]["kappa"].numpy()
    label = parts["test"]["label"][: len(y)].numpy()
    assert y.shape[:2] == (200, 30)

    def accuracy(features):
        logits = features @ fitted["weight"].numpy().T + fitted["bias"].numpy()
        return (logits.argmax(axis=1) == label).mean()

    found = sections["crops"]["accuracy"]
    surest = y[np.arange(len(y)), kappa.argmax(axis=1)]
    assert found["crop of highest kappa"]["linear"] == pytest.approx(accuracy(surest))
    weighted = (kappa[..., None] * y).sum(axis=1) / kappa.sum(axis=1, keepdims=True)
    assert found["30 crops weighted by kappa"]["linear"] == pytest.approx(
        accuracy(weighted), abs=0.006
    )
    other = knn_of_sklearn(parts["train"]["y"], parts["train"]["label"], sections["knn"]["k"])
    right = other.predict(surest) == label
    assert found["crop of highest kappa"]["knn"] == pytest.approx(right.mean(), abs=0.011)
    probability = torch.from_numpy(y) @ fitted["weight"].T + fitted["bias"]
    torch.testing.assert_close(
        crops["scores"]["linear probability"], probability.softmax(dim=-1).amax(dim=-1)
    )
    nearest = F.normalize(crops["y"][3], dim=1) @ F.normalize(parts["train"]["y"], dim=1).T
    torch.testing.assert_close(crops["scores"]["nearest similarity"][3], nearest.amax(dim=1))


def test_pairs_and_calibration(run):
    parts, sections = run("vi-simsiam")
    pairs = parts["pairs"]
    cosine, kappa = pairs["cosine"].double().numpy(), pairs["scores"]["kappa"].double().numpy()
    assert sections["pairs"]["n"] == len(cosine) == 1800  # 5 of each of 360 images
    quartiles = list(sections["pairs"]["cosine"].values())
    np.testing.assert_allclose(quartiles, np.quantile(cosine, [0.25, 0.5, 0.75]), rtol=1e-6)
    expected = kappa / (kappa + 16 - 1)  # d = 16
    np.testing.assert_allclose(pairs["expected"].numpy(), expected, rtol=1e-4)
    tenths = np.array_split(np.argsort(pairs["expected"].numpy(), kind="stable"), 10)
    calibration = sections["calibration"]
    means = [expected[part].mean() for part in tenths], [cosine[part].mean() for part in tenths]
    np.testing.assert_allclose(calibration["expected"], means[0], rtol=1e-3)
    np.testing.assert_allclose(calibration["observed"], means[1], rtol=1e-3, atol=1e-3)
    error = np.abs(np.subtract(*means)).mean()
    assert calibration["ece"] == pytest.approx(error, abs=1e-3)


def test_r_auroc_and_other_data(run):
    parts, sections = run("vi-simsiam")
    y = F.normalize(parts["test"]["clean"]["y"], dim=1)
    similarity = y @ y.T - 2 * torch.eye(len(y))
    label, kappa = parts["test"]["label"], parts["test"]["clean"]["scores"]["kappa"]
    correct = label[similarity.argmax(dim=1)] == label
    row = sections["r-auroc"]["digits"]
    assert row["recall at 1"] == pytest.approx(correct.double().mean().item(), abs=0.003)
    assert row["confidences"]["kappa"]["auroc"] == pytest.approx(auroc(correct, kappa), abs=0.01)

    test = parts["other mnist"]["test"]
    both = torch.cat([kappa, test["scores"]["kappa"]])
    inside = torch.arange(len(both)) < len(kappa)
    found = sections["ood"]["mnist"]["confidences"]
    assert found["kappa"]["auroc"] == pytest.approx(auroc(inside, both), abs=1e-9)

    k, train = sections["knn"]["k"], parts["train"]
    other = knn_of_sklearn(train["y"], train["label"], k)
    shares = [
        torch.from_numpy(other.predict_proba(x["y"].numpy()).max(axis=1))
        for x in (parts["test"]["clean"], test)
    ]
    share = auroc(inside, torch.cat(shares))
    assert found["vote share"]["auroc"] == pytest.approx(share, abs=0.01)  # ties
    fitted = parts["linear"]["fitted"]
    probability = [
        (x["y"] @ fitted["weight"].T + fitted["bias"]).softmax(dim=1).amax(dim=1)
        for x in (parts["test"]["clean"], test)
    ]
    linear = auroc(inside, torch.cat(probability))
    assert found["linear probability"]["auroc"] == pytest.approx(linear, abs=1e-4)
    bank, queries = (F.normalize(x["y"], dim=1) for x in (train, test))
    nearest = (queries @ bank.T).amax(dim=1)
    both = torch.cat([parts["knn"]["clean"]["nearest"], nearest])
    assert found["nearest similarity"]["auroc"] == pytest.approx(auroc(inside, both), abs=1e-3)

    y = F.normalize(test["y"], dim=1)
    nearest, index = (y @ y.T - 2 * torch.eye(len(y))).max(dim=1)
    correct = test["label"][index] == test["label"]
    row = sections["r-auroc"]["mnist"]["confidences"]
    for name, score in (("nearest similarity", nearest), ("linear probability", probability[1])):
        assert row[name]["auroc"] == pytest.approx(auroc(correct, score), abs=0.01)

    train, transfer = parts["other mnist"]["train"], sections["transfer"]["mnist"]
    other = knn_of_sklearn(train["y"], train["label"], transfer["k"])
    right = other.predict(test["y"].numpy()) == test["label"].numpy()
    assert transfer["knn"] == pytest.approx(right.mean(), abs=0.004)


def test_entropy_of_dino(evaluated, run_folders, run):
    dino, kappa = (run(name)[0]["test"]["clean"]["scores"] for name in ("dino", "vi-simsiam"))
    row = evaluated[1]["entropy"][0]
    assert (row["dino"], row["kappa"], row["seed"]) == ("dino", "vi-simsiam", 0)
    r = np.corrcoef(-dino["negative entropy"].double(), kappa["kappa"].double())[0, 1]
    assert row["correlation"] == pytest.approx(r, abs=1e-6)
    assert len(evaluated[1]["entropy"]) == 5  # all with a kappa; the other seed has no DINO
    entropy = -dino["negative entropy"]
    assert bool((entropy >= 0).all())
    assert bool((entropy <= np.log(16)).all())


def test_means_and_standard_deviations_over_seeds(evaluated):
    _, report, printed = evaluated
    values = [
        report["runs"][name]["sections"]["knn"]["accuracy"]["clean"]
        for name in ("vi-simsiam", "vi-simsiam-1")
    ]
    leaf = report["groups"]["vi-simsiam"]["sections"]["knn"]["accuracy"]["clean"]
    assert leaf["values"] == values
    assert leaf["mean"] == pytest.approx(np.mean(values))
    assert leaf["sd"] == pytest.approx(np.std(values, ddof=1))
    cell = f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}".replace("0.", ".")
    assert cell in printed
    assert report["groups"]["simsiam"]["sections"]["knn"]["accuracy"]["clean"]["sd"] is None


def test_one_method_has_its_own_row_in_the_picture_of_accuracies(example):
    from vi_simsiam.evaluation.figures import accuracy

    leaf = {"mean": 0.4, "sd": None}
    section = {"accuracy": {"clean": leaf, "damaged": leaf}}
    figure = accuracy({"simsiam": {"n": 1, "sections": {"knn": section}}}, {})
    (axis,) = figure.axes
    low, high = sorted(axis.get_ylim())
    shown = [y for line in axis.lines for y in line.get_ydata()]
    assert shown
    assert low + 0.3 < min(shown) <= max(shown) < high - 0.3
    assert abs(axis.get_yticks()[0] - shown[0]) < 0.2


def test_groups_name_the_settings_that_differ(example):
    from types import SimpleNamespace

    from vi_simsiam.evaluation.summary import groups_of

    def trained(seed, step=10, **settings):
        method = {"method": "simsiam", "seed": seed, "schedule": "cosine", **settings}
        return SimpleNamespace(settings=method, step=step)

    runs = [trained(0), trained(1), trained(0, schedule="constant"), trained(0, method="dino")]
    labels = groups_of(runs)
    assert {label: len(group) for label, group in labels.items()} == {
        "simsiam, schedule cosine": 2,
        "simsiam, schedule constant": 1,
        "dino": 1,
    }
    longer = [trained(0, total_steps=10), trained(0, 20, total_steps=20)]
    assert list(groups_of(longer)) == ["simsiam, 10 steps", "simsiam, 20 steps"]
    early = "simsiam, 10 of 20 steps"
    assert list(groups_of([*longer, trained(0, total_steps=20)]))[2] == early
