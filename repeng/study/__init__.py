"""A study: settings, plan, run, evaluations, figures."""
