"""The genes of the simulated study and what each of them follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spotscope.data.simulate.settings import SUBTYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NAMES = {
    "invasive cancer": """ERBB2 GRB7 STARD3 PGAP3 MIEN1 ESR1 CCND1 MUC1 XBP1 AGR2 TFF1 TFF3 GATA3
        FOXA1 SCGB2A2 CEACAM6 FASN CRABP2 KRT7 PIP AZGP1 SPINT2 TSPAN13 MLPH S100A9""",
    "cancer in situ": """CALML5 S100P KRT16 KRT6B CEACAM5 LCN2 SLPI S100A7 S100A8 PSAP MGP KRT80
        TM4SF1 FABP7 CXCL14 CDK12 ORMDL3 MED1 KRT81 CLDN3""",
    "epithelium": """KRT8 KRT18 KRT19 EPCAM CDH1 CLDN4 CLDN7 ELF3 TACSTD2 CD24 SPINT1 RAB25 AP1M2
        ESRP1 GRHL2 MAL2 LSR ST14 PRSS8 TJP3""",
    "breast glands": """KRT14 KRT5 KRT17 KRT15 ACTA2 TAGLN MYLK OXTR LTF SCGB3A1 SCGB1D2 PIGR
        KIT ELF5 TP63 SFN DST KLK5 CNN1 PROM1""",
    "connective tissue": """COL1A1 COL1A2 COL3A1 COL5A1 COL6A3 FN1 SPARC DCN LUM POSTN FBLN1 BGN
        THY1 PDGFRB FAP MMP2 TIMP1 VCAN CTHRC1 ASPN SFRP2 LOX""",
    "immune infiltrate": """CD3E CD3D CD2 CD8A CD4 TRBC1 TRBC2 IL7R CCR7 SELL MS4A1 CD79A CD79B
        CD19 CXCL13 CXCR4 LTB PTPRC CD52 CD37 CORO1A IGKC IGHG1 JCHAIN CCL19 CCL21 TRAC GZMK""",
    "adipose tissue": """ADIPOQ PLIN1 PLIN4 FABP4 LPL LEP CIDEC CIDEA GPD1 AQP7 CD36 G0S2 LIPE
        PNPLA2 ADH1B CFD RBP4 THRSP""",
    "proliferation": "MKI67 TOP2A CCNB1 CDK1 AURKA BIRC5 PCNA TYMS UBE2C STMN1 H2AZ1 TUBA1B",
    "hypoxia": "VEGFA CA9 SLC2A1 NDRG1 ADM BNIP3 LDHA PGK1 ENO1 ANKRD37",
    "interferon": "ISG15 IFI6 IFI27 IFIT1 IFIT3 MX1 OAS1 STAT1 CXCL10 BST2",
    "every cell": """ACTB GAPDH B2M EEF1A1 RPLP0 RPS18 TPT1 FTH1 HSPA8 UBC PPIA TMSB10 MALAT1 CALR
        HNRNPA1""",
}

# How much of a group's contrast each subtype shows, in the order of SUBTYPES.
_LOADINGS = {
    "invasive cancer": (1.0, 0.55, 0.1, 0.0, 0.05, 0.0),
    "cancer in situ": (0.35, 1.0, 0.15, 0.0, 0.0, 0.0),
    "epithelium": (0.85, 1.0, 0.85, 0.0, 0.05, 0.0),
    "breast glands": (0.05, 0.25, 1.0, 0.1, 0.0, 0.05),
    "connective tissue": (0.45, 0.3, 0.5, 1.0, 0.05, 0.3),
    "immune infiltrate": (0.25, 0.1, 0.05, 0.15, 1.0, 0.0),
    "adipose tissue": (0.0, 0.0, 0.1, 0.15, 0.0, 1.0),
    "proliferation": (0.6, 0.5, 0.1, 0.0, 0.3, 0.0),
    "hypoxia": (0.3, 0.5, 0.0, 0.0, 0.0, 0.0),
    "interferon": (0.2, 0.1, 0.0, 0.0, 0.35, 0.0),
    "every cell": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
}
_DENSITY = {"proliferation": 0.6, "every cell": 0.05}
_FIELD = {"hypoxia": 0.7, "interferon": -0.6}


@dataclass(frozen=True)
class GeneModel:
    """Known coefficients; the formulas are in `truth.py`.

    Attributes
    ----------
    names
        G gene symbols.
    groups
        What each gene follows: a subtype, or one of epithelium, proliferation, hypoxia,
        interferon, every cell.
    by_subtype
        (G, 6) natural log of the rate in each subtype.
    by_density, by_field
        (G,) natural-log slopes on the nuclear density score and on the smooth field.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    by_subtype: NDArray[np.float64]
    by_density: NDArray[np.float64]
    by_field: NDArray[np.float64]

    def markers(self, subtype: str) -> list[str]:
        """Genes whose rate is highest in `subtype` alone."""
        return [n for n, g in zip(self.names, self.groups, strict=True) if g == subtype]


def gene_model(rng: np.random.Generator) -> GeneModel:
    """Draw each gene's abundance, contrast and slopes around those of its group."""
    pairs = [(name, group) for group, text in _NAMES.items() for name in text.split()]
    names, groups = zip(*sorted(pairs), strict=True)
    n = len(names)
    loading = np.array([_LOADINGS[g] for g in groups])
    contrast = rng.uniform(1.3, 3.0, n)
    wobble = rng.normal(0, 0.12, (n, len(SUBTYPES)))
    abundance = rng.normal(0, 0.8, n) + np.where([g == "every cell" for g in groups], 1.2, -0.8)
    return GeneModel(
        names=names,
        groups=groups,
        by_subtype=abundance[:, None] + contrast[:, None] * loading + wobble,
        by_density=np.array([_DENSITY.get(g, 0.0) for g in groups]) + rng.normal(0, 0.08, n),
        by_field=np.array([_FIELD.get(g, 0.0) for g in groups]) + rng.normal(0, 0.08, n),
    )
