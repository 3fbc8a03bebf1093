"""Messages over Unix sockets: what is said (`messages`), how it is framed, who listens and calls."""
