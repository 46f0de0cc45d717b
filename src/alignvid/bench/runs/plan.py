"""A run that is decided in every job and checked in every part, before a weight is read or a file is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from alignvid.bench.data.dataset import DataSet, ImageFile, Unusable
from alignvid.bench.data.draw import drawn
from alignvid.bench.data.halves import half_of
from alignvid.bench.data.opening import open_data
from alignvid.bench.data.samples import Sample
from alignvid.bench.run_folder import IMAGES, DataFacts, ModelFacts, RunFolder, RunInfo, UnusableFacts
from alignvid.bench.runs.jobs import Job, make_job
from alignvid.bench.runs.other_inputs import Given
from alignvid.bench.runs.spec import BenchSpec
from alignvid.bench.runs.variants import Variant, parse_variants
from alignvid.errors import InputError
from alignvid.generate.call import Defaults, Settings, check_accepts, settle
from alignvid.generate.device import choose_device
from alignvid.generate.guidance import check_schedule
from alignvid.generate.guiders import check_guider
from alignvid.generate.identity import model_identity
from alignvid.generate.loading import find_model
from alignvid.generate.plan import model_defaults, pipeline_class_of
from alignvid.generate.record import machine_facts, now, package_versions
from alignvid.generate.sketch import sketch
from alignvid.media.images import ReferenceImage, decode_image


@dataclass(frozen=True)
class Plan:
    """What will run."""

    spec: BenchSpec
    info: RunInfo
    data: DataSet
    samples: tuple[Sample, ...]
    """Those of this command that can be used; their images are relative to the run's folder."""
    jobs: tuple[Job, ...]
    """All of this command, sample by sample, whether done or not, whichever shard they are of."""
    unusable: tuple[Unusable, ...]
    images: Mapping[str, bytes]
    """Reference pictures that a variant brings, by their place in the run's folder."""

    def write(self, folder: RunFolder) -> None:
        """Write images and plan into the run's folder, joined with what it holds already.

        Raises: InputError if the folder holds a run of other data, another model or other settings.
        """
        before = folder.info() if folder.exists() else None
        info = self.info if before is None else joined(before, self.info)
        samples = self._joined_samples(folder.samples() if before else [])
        originals = {sample.id: sample for sample in self.data.samples}
        for sample in self.samples:
            if sample.image_path is not None:
                folder.write_image(sample.image_path, self.data.image_of(originals[sample.id]).content)
        for place, content in self.images.items():
            folder.write_image(place, content)
        if info != before or samples != folder.samples():
            folder.write_plan(info, samples)

    def _joined_samples(self, before: list[Sample]) -> list[Sample]:
        """All samples of the run, in the order of the data set."""
        planned = {sample.id: sample for sample in (*before, *self.samples)}
        return [planned[sample.id] for sample in self.data.samples if sample.id in planned]


@dataclass(frozen=True)
class _Usable:
    sample: Sample
    """With its image in the run's folder."""
    reference: ReferenceImage | None
    """None for a prompt alone."""


def make_plan(spec: BenchSpec, *, on_gpu: bool | None = None) -> Plan:
    """Check everything that can be checked without the weights, and list the jobs.

    Args:
        spec: What to run.
        on_gpu: Whether workers elsewhere have one; None: what this machine has decides.

    Raises: AlignvidError naming what is wrong and what to do.
    """
    source = find_model(spec.model)
    pipeline_class = pipeline_class_of(source)
    variants = parse_variants(spec.variants, sketch(source))
    data = open_data(spec.data)
    for variant in variants:
        _check_has_images(variant, data)
        image = "image" if data.has_images else variant.images  # a stand-in: whether there is one decides
        check_accepts(pipeline_class, _generation(spec, variant, image))
        guidance = _generation(spec, variant, image).guidance or model_defaults(source, pipeline_class).guidance
        if variant.cfg_high is not None:
            check_schedule(pipeline_class, variant.cfg_high, guidance)
        if variant.guider is not None:
            _check_alone(spec, variant)
            steps = spec.steps or model_defaults(source, pipeline_class).steps
            check_guider(variant.guider, pipeline_class, source.index, guidance=guidance, steps=steps)
    shared = {**spec.shared_settings, "dtype": spec.dtype or _default_dtype(spec, on_gpu)}
    model = ModelFacts(**model_identity(source, spec.loras))
    return assemble(
        spec, variants, defaults=model_defaults(source, pipeline_class), model=model, shared=shared, data=data
    )


def assemble(
    spec: BenchSpec,
    variants: tuple[Variant, ...],
    *,
    defaults: Defaults,
    model: ModelFacts,
    shared: dict[str, Any],
    data: DataSet | None = None,
) -> Plan:
    """The jobs of a spec, whoever runs them.

    Args:
        spec: Data, seeds and numbers.
        variants: Parsed, and tried on the model as far as that can be done.
        defaults: What the model suggests where the spec leaves a number open.
        model: What distinguishes it from others.
        shared: Settings that all variants share, with the number format.
        data: What the spec names, if it is open already.

    Raises: InputError if the data or what a variant brings cannot be used.
    """
    data = data or open_data(spec.data)
    samples, jobs, unusable = [], [], list(data.dropped)
    given = Given(variants, spec.max_pixels)
    for found in _references(data, spec):
        if isinstance(found, Unusable):
            unusable.append(found)
            continue
        samples.append(found.sample)
        jobs += _jobs_of(found, spec, variants, given, defaults, model, shared)
    if not samples:
        raise InputError(f"No sample of {data.name!r} can be used: {_reasons(unusable)}")
    info = _info(spec, data, model, variants, shared, unusable)
    return Plan(spec, info, data, tuple(samples), tuple(jobs), tuple(unusable), given.pictures)


def joined(before: RunInfo, now_planned: RunInfo) -> RunInfo:
    """The plan of a run that is resumed with more variants, seeds or samples.

    Raises: InputError if data, model or shared settings differ, or a variant's name now means something else.
    """
    _refuse_another("data", _named(before.data, "name", "digest"), _named(now_planned.data, "name", "digest"), "digest")
    kept = ("name", "pipeline", "revision", "digest", "loras")
    _refuse_another("model", _named(before.model, *kept), _named(now_planned.model, *kept), *kept[1:])
    for name, value in now_planned.settings.items():
        _refuse_another(name, before.settings.get(name), value)
    variants = {variant["name"]: variant for variant in before.variants}
    for variant in now_planned.variants:
        _refuse_another(f"variant {variant['name']!r}", variants.setdefault(variant["name"], variant), variant)
    reasons = {row["sample"]: row for row in (*before.data["unusable"], *now_planned.data["unusable"])}
    data: DataFacts = {**before.data, "unusable": list(reasons.values())}
    return replace(
        before,
        data=data,
        variants=list(variants.values()),
        seeds=list(dict.fromkeys((*before.seeds, *now_planned.seeds))),
    )


def _references(data: DataSet, spec: BenchSpec) -> Iterator[_Usable | Unusable]:
    """Every sample that was asked for, with its image decoded, or the reason why it has none."""
    asked = [sample for sample in data.samples if spec.half in (None, half_of(sample.id))][: spec.limit]
    for sample in asked if spec.draw is None else drawn(asked, spec.draw):
        if sample.image_path is None:
            yield _Usable(sample, None)
            continue
        try:
            file: ImageFile = data.image_of(sample)
            reference = decode_image(file.content, sample.image_path, max_pixels=spec.max_pixels)
        except InputError as error:
            yield Unusable(sample.id, str(error))
            continue
        yield _Usable(replace(sample, image_path=f"{IMAGES}/{sample.id}{file.suffix}"), reference)


def _jobs_of(
    found: _Usable,
    spec: BenchSpec,
    variants: tuple[Variant, ...],
    given: Given,
    defaults: Defaults,
    model: ModelFacts,
    shared: dict[str, Any],
) -> Iterator[Job]:
    decisive = {**_named(model, "pipeline", "revision", "digest"), **_present(model, "loras")}
    for seed in spec.seeds:
        for variant in variants:
            reference = found.reference
            sample, sha256 = given.to(variant, found.sample, None if reference is None else reference.sha256)
            generation = _generation(spec, variant, sample.image_path)
            settings: Settings = settle(generation, defaults, None if reference is None else reference.pixels)
            yield make_job(
                sample,
                variant,
                seed,
                settings,
                image=sample.image_path,
                image_sha256=sha256,
                model=decisive,
                shared=shared,
            )


def _check_alone(spec: BenchSpec, variant: Variant) -> None:
    if spec.batch > 1 or variant.cfg_high is not None:
        beside = "--batch" if spec.batch > 1 else "cfg_high"
        raise InputError(f"Variant {variant.name!r}: guider and {beside} exclude each other; leave one out.")


def _check_has_images(variant: Variant, data: DataSet) -> None:
    changed = next((name for name in ("still", "blur") if getattr(variant, name)), None)
    if changed is not None and not (data.has_images or variant.images):
        raise InputError(
            f"Variant {variant.name!r} needs a reference picture ({changed}), and {data.name!r} has prompts alone; "
            "leave it out."
        )


def _generation(spec: BenchSpec, variant: Variant, image: str | None) -> Any:
    guidance = {} if variant.guidance is None else {"guidance": variant.guidance}
    return spec.generation(image=image, **guidance)


def _default_dtype(spec: BenchSpec, on_gpu: bool | None) -> str:
    if on_gpu is None:
        return choose_device(spec.device, None, spec.offload).dtype
    return "bfloat16" if on_gpu else "float32"


def _info(
    spec: BenchSpec,
    data: DataSet,
    model: ModelFacts,
    variants: tuple[Variant, ...],
    shared: dict[str, Any],
    unusable: list[Unusable],
) -> RunInfo:
    reasons = [UnusableFacts(sample=row.sample, reason=row.reason) for row in unusable]
    return RunInfo(
        data=DataFacts(**data.facts(), unusable=reasons),
        model=model,
        variants=[variant.to_dict() for variant in variants],
        seeds=list(spec.seeds),
        settings=shared,
        versions=package_versions(),
        machine=machine_facts(),
        created=now(),
    )


def _named(facts: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: facts.get(name) for name in names}


def _present(facts: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A fact that most models lack, so that their jobs have the ids that they had before there was such a fact."""
    return {name: facts[name]} if facts.get(name) else {}


def _refuse_another(what: str, before: Any, planned: Any, *decisive: str) -> None:
    """Refuse a plan that differs from what the folder holds; of dicts, in what is decisive."""
    same = all(before[name] == planned[name] for name in decisive) if decisive else before == planned
    if not same:
        raise InputError(
            f"The folder holds a run with {what} {before!r}, and {planned!r} was given; give another --out, "
            "or the line with which the run was begun."
        )


def _reasons(unusable: list[Unusable]) -> str:
    shown = "; ".join(f"{row.sample}: {row.reason}" for row in unusable[:3])
    return shown or "the half and the limit leave none; choose others."
