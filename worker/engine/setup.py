"""How each model's session is to be made on this device: what its author asks for, within what works here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fleet.contracts import DevicePolicy, Pool
from fleet.errors import ModelError, NoCapableWorker
from fleet.logs import get_logger
from fleet.settings import CPU_PROVIDER, CUDA_PROVIDER, GPU_PROVIDERS, TENSORRT_PROVIDER
from worker.device import Device
from worker.engine.choice import Choice, Choices, candidate_name, choice_key, choose
from worker.engine.cores import MOST_TWICE_HELD_BYTES
from worker.engine.example_feeds import shapes_of
from worker.engine.model_version import ModelVersion
from worker.engine.provider_options import faults_of_config, provider_options
from worker.engine.session import Session, SessionSetup
from worker.engine.trial_feeds import trial_feeds

AUTO = "auto"
log = get_logger(__name__)


@dataclass(frozen=True)
class Setups:
    """Called with a version, tells how to make its session on `device`.

    Raises NoCapableWorker `wrong-device` for a model that runs on the other kind of device only: its job came here by
    mistake. Raises ModelError for options that a model may not set.
    """

    device: Device
    #: What `ONNX_PROVIDERS` says; empty where it leaves the choice to the device.
    asked: Sequence[str] = ()
    #: Where engines and choices are kept between starts; None for nowhere.
    cache: Path | None = None

    def __call__(self, version: ModelVersion) -> SessionSetup:
        _refuse_wrong_device(version, self.device)
        options = version.manifest.onnx
        if wrong := faults_of_config(options.session_config):
            raise ModelError(f"{version.key}: {'; '.join(wrong)}", code="session-config-invalid")
        if options.providers == AUTO or (not options.providers and list(self.asked) == [AUTO]):
            if len(version.graphs) > 1:
                setup = self._with(version, self.device.providers.using)
                return replace(setup, why="auto: not measured for a model of several graphs, the device's own order")
            return self._measured(version)
        providers = session_providers(options.providers, self.device.providers.using)
        asked = options.providers or self.asked
        return self._with(version, providers, fallback=self._fallback(asked, providers))

    def _with(
        self,
        version: ModelVersion,
        providers: Sequence[str],
        *,
        threads: int = 0,
        graph_optimization: str = "",
        fallback: str = "",
    ) -> SessionSetup:
        options, device = version.manifest.onnx, self.device
        providers = with_cuda_behind(providers, device.providers.using)
        # Whoever names threads, or has measured them, has these; and large weights are not held twice.
        named = options.intra_op_threads or threads
        lone_threads = 0 if named or version.size_bytes > MOST_TWICE_HELD_BYTES else device.lone_threads
        threads = named or _threads(version, device)
        told = {
            name: provider_options(
                name,
                options.provider_options.get(name, {}),
                model_sha256=version.sha256,
                cache=self.cache,
                device_kind=device.kind,
                threads=threads,
            )
            for name in providers
        }
        return SessionSetup(
            providers=providers,
            provider_options=told,
            intra_op_threads=threads,
            lone_threads=lone_threads,
            inter_op_threads=options.inter_op_threads,
            parallel=options.execution_mode == "parallel",
            # Threads of one graph that spin slow down the graph that runs next, by five times (measured).
            spin=device.concurrency == 1 and len(version.graphs) == 1,
            graph_optimization=graph_optimization or options.graph_optimization,
            config=options.session_config,
            fallback=fallback,
        )

    def _fallback(self, asked: Sequence[str], taken: Sequence[str]) -> str:
        """What a person is told when the first choice is not the one that is used."""
        if not asked or taken[0] == asked[0] or self.device.simulated:
            return ""
        reason = self.device.providers.refused.get(
            asked[0], "ONNX_PROVIDERS and INFERENCE_DEVICE do not let this worker use it"
        )
        return f"asked for {asked[0]}, using {taken[0]}: {reason}"

    def _measured(self, version: ModelVersion) -> SessionSetup:
        """The fastest of what works here, as it was measured once."""
        reference, *others = self._candidates(version)
        cpu_allowed = version.manifest.device is not DevicePolicy.GPU_ONLY
        if not others:
            return replace(reference, why=f"auto: only {candidate_name(reference)} works here")
        choices = Choices(self.cache / "choices") if self.cache else None
        key = choice_key(version.sha256, f"{self.device.kind}, {self.device.name}", [reference, *others])
        choice = choices.remembered(key) if choices else None
        if choice is None:
            choice = self._measure(version, reference, others, cpu_allowed=cpu_allowed)
            if choices:
                choices.remember(key, choice)
        taken = [reference, *others][choice.taken]
        if taken is reference and not cpu_allowed:
            taken = others[0]
        return replace(taken, why=_words(candidate_name(taken), choice))

    def _measure(
        self, version: ModelVersion, reference: SessionSetup, others: Sequence[SessionSetup], *, cpu_allowed: bool
    ) -> Choice:
        feeds = trial_feeds(version, Session(version.graph, reference, alone=lambda: False).inputs)
        choice = choose(version.graph, feeds, reference, others, cpu_allowed=cpu_allowed)
        for trial in choice.trials:
            log.info(
                "way of running a model tried",
                model=version.key,
                candidate=trial.name,
                seconds=trial.seconds,
                disagreement=trial.disagreement,
                left_out=trial.left_out,
            )
        taken = choice.trials[choice.taken].name
        log.info("provider chosen", model=version.key, taken=taken, reason=choice.reason, inputs=shapes_of(feeds))
        return choice

    def _candidates(self, version: ModelVersion) -> list[SessionSetup]:
        """The CPU as it would be used without measuring, and what else may be faster here."""
        working, options = self.device.providers.using, version.manifest.onnx
        others = []
        for name in working:
            if name != CPU_PROVIDER:
                others.append(self._with(version, [name, CPU_PROVIDER]))
        if self.device.pool is Pool.CPU:
            threads = options.intra_op_threads or _threads(version, self.device)
            for fewer in [] if options.intra_op_threads else sorted({1, max(1, threads // 2)} - {threads}):
                others.append(self._with(version, [CPU_PROVIDER], threads=fewer))
            if options.graph_optimization == "all":
                # Without the blocked layout, whose conversions cost small networks more than it saves.
                others.append(self._with(version, [CPU_PROVIDER], graph_optimization="extended"))
        return [self._with(version, [CPU_PROVIDER]), *others]


def _threads(version: ModelVersion, device: Device) -> int:
    """Joined requests run one batch at a time: the cores are all theirs, or shared out among the instances."""
    batching = version.manifest.batching
    if device.threads_of_batches and batching.dynamic and batching.max_batch_size > 1 and batching.instances:
        return max(device.intra_op_threads, device.threads_of_batches // batching.instances)
    return device.intra_op_threads


def with_cuda_behind(providers: Sequence[str], working: Sequence[str]) -> list[str]:
    """What TensorRT cannot run belongs on the same GPU, and not on the CPU."""
    if TENSORRT_PROVIDER not in providers or CUDA_PROVIDER in providers or CUDA_PROVIDER not in working:
        return list(providers)
    place = list(providers).index(TENSORRT_PROVIDER) + 1
    return [*providers[:place], CUDA_PROVIDER, *providers[place:]]


def _words(taken: str, choice: Choice) -> str:
    left_out = [f"{trial.name}: {trial.left_out}" for trial in choice.trials if trial.left_out]
    return f"auto: {taken}; {choice.reason}" + (f"; left out {'; '.join(left_out)}" if left_out else "")


def _refuse_wrong_device(version: ModelVersion, device: Device) -> None:
    only = {DevicePolicy.GPU_ONLY: Pool.GPU, DevicePolicy.CPU_ONLY: Pool.CPU}.get(version.manifest.device, device.pool)
    if only is not device.pool:
        message = f"{version.key} runs on a {only.name} only, and the device of this worker is {device.name}"
        raise NoCapableWorker(message, code="wrong-device")


def session_providers(asked: Sequence[str], working: Sequence[str]) -> Sequence[str]:
    """Those of `asked` that work, in that order; the device's own where none does.

    A model that asks for some GPU provider, with the CPU's behind it, is not served by the CPU alone on a GPU.
    """
    wanted = [name for name in asked if name in working]
    meant_a_gpu = bool(asked) and asked[0] in GPU_PROVIDERS
    if not wanted or (meant_a_gpu and working[0] in GPU_PROVIDERS and wanted[0] not in GPU_PROVIDERS):
        return working
    return wanted
