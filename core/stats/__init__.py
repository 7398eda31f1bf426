"""Statistics of runs: noise, the decision rule, certification and drift. Pure."""
