"""The lab's estimators inside verl."""
