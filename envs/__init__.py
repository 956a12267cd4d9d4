"""Where rollouts come from: tasks that know nothing of estimators."""
