"""LIQE, reproduced: blind image quality assessment via vision-language correspondence (CVPR 2023)."""

__version__ = "0.1.0"
