"""An unbiased template of a cohort, with the transforms of every scan to and from it."""

from anamorph.groupwise.build import Template, build_template
from anamorph.groupwise.settings import TemplateSettings

__all__ = ["Template", "TemplateSettings", "build_template"]
