"""Publishing a package: signed on the publisher's own machine, uploaded, and handed to the server.

Needs neither a runtime nor a training framework.
"""
