"""What a user can cause, told apart from a fault of the lab."""


class InputError(ValueError):
    """Something that a user has given cannot be used; the message names what was expected and what came.

    The command line ends such an error in one line and status 2. Every other exception is a fault of the lab and shows
    its traceback.
    """
