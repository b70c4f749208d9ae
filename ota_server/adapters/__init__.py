"""The ports' implementations: SQLAlchemy, the TUF repository on disk, the blob folder."""
