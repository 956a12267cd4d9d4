"""The course: lessons, exercises that are graded exactly and explain themselves, and a page that needs no install.

`course/README.md` is the lecturer's page. The course imports `maxrl_lab` and `envs`; only the command line imports the
course.
"""
