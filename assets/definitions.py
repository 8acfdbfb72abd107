"""Everything that Dagster needs to know, in one object."""

import dagster as dg

from assets import benchmarks, checks, corpus, finetuning, pretraining, release, tokens
from assets.workspace import Workspace

GROUPS = (corpus, tokens, pretraining, finetuning, benchmarks, release)

defs = dg.Definitions(
    assets=[asset for group in GROUPS for asset in group.ASSETS],
    asset_checks=checks.CHECKS,
    resources={"workspace": Workspace()},
)
