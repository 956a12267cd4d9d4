"""What each exercise asks: a check takes the student's functions and raises `Wrong`, which says what they do instead."""
