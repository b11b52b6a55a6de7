"""The figures of the evaluation, one file each: arrays in, one PNG out.

Each `draw_...` writes the figure that the `..._figure` beside it composes. Figure 3, augmentation,
is `lookalike.models.augment.draw_examples`.
"""

from reproduction.figures.attention import AttendedPictures, draw_attention
from reproduction.figures.buckets import draw_buckets
from reproduction.figures.feedback import draw_feedback
from reproduction.figures.hamming import CodeExamples, PairDistances, draw_hamming
from reproduction.figures.pictures import Captioned
from reproduction.figures.robustness import DistortionCurves, draw_robustness
from reproduction.figures.search_time import draw_search_time
from reproduction.figures.table import MethodScore, draw_table
from reproduction.figures.top_results import Search, draw_failures, draw_top_results

__all__ = [
    "AttendedPictures",
    "Captioned",
    "CodeExamples",
    "DistortionCurves",
    "MethodScore",
    "PairDistances",
    "Search",
    "draw_attention",
    "draw_buckets",
    "draw_failures",
    "draw_feedback",
    "draw_hamming",
    "draw_robustness",
    "draw_search_time",
    "draw_table",
    "draw_top_results",
]
