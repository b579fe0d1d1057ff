"""``koinon demo``: ten businesses on real data, from the download to the report."""

from koinon.studies.demo.run import DemoConfig, read_per_user, run_demo

__all__ = ["DemoConfig", "read_per_user", "run_demo"]
