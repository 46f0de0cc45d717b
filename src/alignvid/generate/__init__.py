"""From a GenerationSpec to a video and its record."""

from alignvid.extras import require

require("generate", "Generating", "diffusers", "transformers", "accelerate", "numpy", "PIL", "av")

from alignvid.generate.jobs import Job, JobResult, read_jobs, run_jobs
from alignvid.generate.model import Model, load_model
from alignvid.generate.observing import ObservationSpec, parse_words, read_traces
from alignvid.generate.run import Generation, generate, repeat
from alignvid.generate.spec import GenerationSpec

__all__ = [
    "Generation",
    "GenerationSpec",
    "Job",
    "JobResult",
    "Model",
    "ObservationSpec",
    "generate",
    "load_model",
    "parse_words",
    "read_jobs",
    "read_traces",
    "repeat",
    "run_jobs",
]
