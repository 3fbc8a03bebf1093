"""Recovery rehearsed: restored to a scratch place, looked at from outside, timed, signed."""
