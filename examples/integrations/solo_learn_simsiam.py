"""solo-learn's SimSiam with a kappa, as a method of its own.

Tried with solo-learn 1.0.6. Import this file in main_pretrain.py, then

    from solo.methods import METHODS
    METHODS["vi_simsiam"] = VISimSiam

and set `method: "vi_simsiam"` in a copy of a SimSiam config. solo-learn computes under 16-bit
autocast by default; the loss and the end of the kappa head step out of it by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from solo.methods.simsiam import SimSiam
from torch import Tensor

from powerspherical_ext.losses import KappaHead, VISimSiamLoss, feature_std


class VISimSiam(SimSiam):
    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        self.kappa_head = KappaHead(self.features_dim)
        self.vi_loss = VISimSiamLoss()

    @property
    def learnable_params(self) -> list[dict[str, Any]]:
        # solo-learn trains what is listed here, and nothing else.
        return [
            *super().learnable_params,
            {"name": "kappa_head", "params": self.kappa_head.parameters()},
        ]

    def forward(self, X: Tensor) -> dict[str, Any]:
        out = super().forward(X)
        out.update({"kappa": self.kappa_head(out["feats"])})
        return out

    def multicrop_forward(self, X: Tensor) -> dict[str, Any]:
        # For num_small_crops > 0, which solo-learn's own SimSiam does not support.
        out = super().multicrop_forward(X)
        z = self.projector(out["feats"])
        out.update({"z": z, "p": self.predictor(z), "kappa": self.kappa_head(out["feats"])})
        return out

    def training_step(self, batch: Sequence[Any], batch_idx: int) -> Tensor:
        # What SimSiam's own step does first: out[...] are lists with one tensor for each crop.
        out = super(SimSiam, self).training_step(batch, batch_idx)
        loss = self.vi_loss(out["p"], out["z"][: self.num_large_crops], out["kappa"])
        metrics = {"train_nll": loss, "train_z_std": feature_std(out["z"][0])}
        self.log_dict(metrics, on_epoch=True, sync_dist=True)
        return loss + out["loss"]
