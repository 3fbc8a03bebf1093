"""Messages over Unix sockets: what is said, how it is framed, who listens and who calls."""
