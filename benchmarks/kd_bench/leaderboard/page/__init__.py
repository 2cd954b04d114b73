"""The leaderboard page: one static, self-contained HTML file."""

from kd_bench.leaderboard.page.build import build_page

__all__ = ["build_page"]
