"""What the simulated fleet has learned of its jobs: the real cost model, fed as workers feed it through the record."""

from fleet.contracts import Pool
from fleet.cost import CPU_KIND, Belief, CostModel, Key, usual_s
from fleet.service_times import MEMORY, Observations
from routing_lab.work import Job, Model

KIND = {Pool.GPU: "gpu", Pool.CPU: CPU_KIND}


class Learning:
    """Workers tell with every heartbeat, readers keep what they read for two seconds; here both happen in `tell`."""

    def __init__(self) -> None:
        self._seen = Observations()
        self._beliefs: dict[Key, Belief] = {}
        self._model = CostModel({})
        self._means: dict[tuple[str, int, Pool], float] = {}

    def saw(self, job: Job, pool: Pool, seconds: float) -> None:
        self._seen.add(Key(job.model.name, 1, job.bucket, KIND[pool]), seconds)

    def tell(self) -> None:
        told = self._seen.take()
        if not told:
            return
        for key, seen in told.items():
            known = self._beliefs.get(key)
            self._beliefs[key] = seen if known is None else added(known, seen)
        self._model = CostModel(self._beliefs)
        self._means.clear()

    def mean_s(self, model: Model, bucket: int, pool: Pool) -> float:
        """Expected seconds of such a job."""
        known = self._means.get((model.name, bucket, pool))
        if known is None:
            said = {each: model.card_s.get(each) or usual_s(model.lane, each) for each in Pool}
            other = Pool.CPU if pool is Pool.GPU else Pool.GPU
            known = self._model.of(
                model.name, 1, bucket, pool, (KIND[pool],), prior_s=said[pool], other_prior_s=said[other]
            ).mean_s
            self._means[model.name, bucket, pool] = known
        return known


def added(known: Belief, seen: Belief) -> Belief:
    """What `learn_service_times` of `fleet/sql/traffic.sql` does with a row."""
    old = min(known.weight, MEMORY)
    weight = old + seen.weight
    gap = seen.mean_log - known.mean_log
    return Belief(
        weight,
        known.mean_log + gap * seen.weight / weight,
        (old * known.variance_log + seen.weight * seen.variance_log) / weight + gap**2 * old * seen.weight / weight**2,
    )
