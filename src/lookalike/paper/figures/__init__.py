"""The figures of the evaluation, one file each: arrays in, one PNG out.

Each `draw_...` writes the figure that the `..._figure` beside it composes.
"""

from lookalike.paper.figures.attention import AttendedPictures, draw_attention
from lookalike.paper.figures.augmentation import draw_augmentation
from lookalike.paper.figures.buckets import draw_buckets
from lookalike.paper.figures.feedback import draw_feedback
from lookalike.paper.figures.hamming import CodeExamples, PairDistances, draw_hamming
from lookalike.paper.figures.pictures import Captioned
from lookalike.paper.figures.robustness import DistortionCurves, draw_robustness
from lookalike.paper.figures.search_time import draw_search_time
from lookalike.paper.figures.table import MethodScore, draw_table
from lookalike.paper.figures.top_results import Search, draw_failures, draw_top_results

__all__ = [
    "AttendedPictures",
    "Captioned",
    "CodeExamples",
    "DistortionCurves",
    "MethodScore",
    "PairDistances",
    "Search",
    "draw_attention",
    "draw_augmentation",
    "draw_buckets",
    "draw_failures",
    "draw_feedback",
    "draw_hamming",
    "draw_robustness",
    "draw_search_time",
    "draw_table",
    "draw_top_results",
]
