"""Compiles the kernels: into a wheel, or for an editable install into the cache. Where that fails, the first use tries again."""

import importlib.util
import warnings
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

NATIVE = Path(__file__).parent / "src" / "common" / "native"


def load_library():
    """`rnn_common.native.library`, which needs nothing but Python, before the package is installed."""
    spec = importlib.util.spec_from_file_location("library", NATIVE / "library.py")
    library = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(library)
    return library


class Build(build_py):
    """Python files, and beside their sources the kernels."""

    def run(self):
        super().run()
        library = load_library()
        try:
            if self.editable_mode:
                library.compiled()
            else:
                folder = Path(self.build_lib) / "rnn_common" / "native"
                library.build(folder / library.shipped().name, library.find_compiler())
        except library.Unavailable as reason:
            warnings.warn(f"the kernels are not compiled: {reason}", stacklevel=1)


class Platform(Distribution):
    """What is compiled is for one kind of machine."""

    def has_ext_modules(self):
        return True


class Wheel(bdist_wheel):
    """For every Python: the kernels know nothing of it."""

    def get_tag(self):
        return ("py3", "none", super().get_tag()[2])


setup(distclass=Platform, cmdclass={"build_py": Build, "bdist_wheel": Wheel})
