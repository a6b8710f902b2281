"""What a run says on the terminal: remarks and warnings. Every event is in the instance, where the web UI shows it."""

import logging
from typing import Final

import dagster as dg

CONSOLE: Final = "console"
DEFAULT_LEVEL: Final = "INFO"


@dg.logger(
    config_schema={
        "log_level": dg.Field(str, default_value=DEFAULT_LEVEL, description="the least level that is printed"),
        "name": dg.Field(str, default_value="dagster"),
    },
    description="Dagster's own console logger with a quieter default.",
)
def console(context: dg.InitLoggerContext) -> logging.Logger:
    """Dagster's console logger; without configuration it leaves out the events of the steps."""
    logger: logging.Logger = dg.colored_console_logger.logger_fn(context)
    return logger
