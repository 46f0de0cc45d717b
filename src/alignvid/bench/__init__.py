"""The benchmark: samples in, videos, answers and measurements as records, scores from the records alone.

    RUN/run.json           what was planned: data, model, variants, seeds, versions, machine
    RUN/samples.jsonl      the samples, as they were read; RUN/images/ their reference images
    RUN/videos/JOB.mp4     one video per sample, variant and seed; JOB.json its record
    RUN/answers.jsonl      one row per judge, video and question; RUN/judges.jsonl the judges' settings
    RUN/metrics.jsonl      one row per metric and video

Each arrow of generate → judge → score leaves a record: judge again without generating, score again without judging.
"""

from alignvid.extras import require

require("bench", "The benchmark", "numpy", "PIL", "filelock")
