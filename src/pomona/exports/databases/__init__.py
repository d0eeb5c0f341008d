"""Targets that are tables of databases. An export sends new and changed rows."""
