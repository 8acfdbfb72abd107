"""Every verb of the command line, by importing the files that define them."""

from assets import (  # noqa: F401
    cli_audit,
    cli_audit_document,
    cli_generate,
    cli_overlap,
    cli_plan,
    cli_preview,
    cli_replay,
    cli_report,
    cli_run,
    cli_scaling,
    cli_serve,
    cli_show,
    cli_source,
    cli_store,
)
