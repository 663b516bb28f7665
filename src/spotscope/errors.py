"""Errors whose message is one clear sentence that a user can act on."""


class SpotScopeError(Exception):
    """Bad input or a missing part, said in one sentence with the next step.

    The command line prints the message and exits with status 2; the docks show it in place.
    Anything else that is raised is a defect of SpotScope.
    """


class Cancelled(Exception):
    """The user asked a running job to stop."""
