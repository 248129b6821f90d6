"""An unbiased template of many scans, with the transforms of every scan to and from it."""

from anamorph.workflows.template.build import Template, build_template
from anamorph.workflows.template.scans import TemplateSettings

__all__ = ["Template", "TemplateSettings", "build_template"]
