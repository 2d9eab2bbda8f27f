"""How a workspace of an older version becomes one of this: alembic runs what lies in `versions`, in order."""
