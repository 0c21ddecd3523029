// OverRows<Family> for every family: the families that have loops of their own.
#pragma once
#include "../families.h"
#include "families/power_spherical.h"
#include "families/spherical_cauchy.h"
#include "families/von_mises_fisher.h"
