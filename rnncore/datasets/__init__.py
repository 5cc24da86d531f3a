"""Data made on the spot: seeded generators and splits, nothing to download."""

from __future__ import annotations

from rnncore.datasets.news import iter_news_requests, news_requests
from rnncore.datasets.splits import original_split, random_split

__all__ = ["iter_news_requests", "news_requests", "original_split", "random_split"]
