"""What pyproject.toml cannot say: the manifests, which lie beside the package, are installed inside it."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithManifests(build_py):
    """Of a clone (``pip install -e``) the manifests are read where they are; of a wheel, in the package."""

    def run(self):
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "liqe_core", "data_manifests")
            shutil.copytree("data_manifests", target, dirs_exist_ok=True)


setup(cmdclass={"build_py": WithManifests})
