"""What each exercise asks: a check raises `WrongAnswerError`, which says what the student's function does instead."""
