"""Where rollouts come from: worlds and tasks that know nothing of estimators."""
