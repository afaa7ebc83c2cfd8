# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a filter has its options from."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Mapping

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import filter_options
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.filter_options import FilterOptions
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.throttle import Throttle
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.watched import WatchedFile

logger = logging.getLogger(__name__)


class Settings:
    """The options in a file, which is read again where it was changed, or in the environment, which stays.

    What cannot be used is told, and the options before stay.

    Args:
        config: the argument of the filter: an absolute path, or None for that in C(GUARD_CONFIG), if any.
        environment: the environment of the process.

    Attributes:
        options: that are in force.
    """

    def __init__(self, config: object, environment: Mapping[str, str]) -> None:
        self.options = FilterOptions()
        self._throttle = Throttle(logger)
        self._path = environment.get(filter_options.CONFIG) if config is None else config
        self._file: WatchedFile | None = None
        if self._path is None:
            self._read_environment(environment)
        elif isinstance(self._path, str) and pathlib.PurePath(self._path).is_absolute():
            self._file = WatchedFile(pathlib.Path(self._path), filter_options.MOST_BYTES)
            self.refresh()
        else:
            logger.error("The config of a filter is %r. Set it to an absolute path. It has its defaults", self._path)

    def refresh(self) -> bool:
        """Read the file again, if it was changed. Returns whether the options have changed."""
        before = self.options
        if self._file is not None:
            try:
                content = self._file.changed()
                if content is not None:
                    self.options = filter_options.options_of_file(content)
            except (OSError, ValueError) as error:
                self._throttle.error("config", "%s cannot be used: %s. The options before stay", self._path, error)
        return self.options != before

    def _read_environment(self, environment: Mapping[str, str]) -> None:
        for hint in filter_options.misspelt(environment):
            logger.warning("%s", hint)
        try:
            self.options = filter_options.options_of_environment(environment)
        except ValueError as error:
            logger.error("The environment of a filter cannot be used: %s. It has its defaults", error)
