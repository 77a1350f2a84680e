"""The one exception a user may see: bad input, said in one line."""


class UserError(Exception):
    """Something the user can mend. Its text is one line; the shell prints it and exits with code 2."""
