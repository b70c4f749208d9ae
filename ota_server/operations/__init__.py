"""What the server does, in terms of ports: no framework, no SQL, no signing library."""
