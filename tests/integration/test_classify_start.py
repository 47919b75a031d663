"""A router fits its classifiers before it takes a job, or says why it can't."""

from __future__ import annotations

from tests.harness import DEADLINE, fleet, wait_for

MODELS = {"fast": {"capacity": 4}}
ROUTES = {
    "billing": {
        "examples": ["Why was I charged twice?", "My card was declined", "I need a copy of my receipt"],
        "models": ["fast"],
    },
    "technical": {
        "examples": ["The app crashes at start", "I can't log in any more", "The screen stays black"],
        "models": ["fast"],
    },
    "general": {"models": ["fast"]},
}


def test_router_without_its_encoder_does_not_start_and_names_the_remedy(tmp_path):
    with fleet(
        tmp_path,
        models=MODELS,
        simulations={"fast": {}},
        routes=ROUTES,
        default_route="general",
        classifier={"encoder": "http://127.0.0.1:9/v1"},
    ) as running:
        worker = running.start("route,join", 2, wait=False)

        wait_for(lambda: worker.process.poll() is not None, "the end of the worker")

        assert worker.process.returncode == 2
        assert "pointsman worker: classifier.encoder: " in worker.log
        # Models need no classifier.
        running.start("model.fast", 2)


def test_slow_classifier_decides_in_a_worker_and_its_fit_is_kept(tmp_path):
    state = tmp_path / "state-of-workers"
    with fleet(
        tmp_path,
        models=MODELS,
        simulations={"fast": {}},
        routes=ROUTES,
        default_route="general",
        classifier={"encoder": "embed"},
    ) as running:
        running.start("route,join", 2, env={"POINTSMAN_STATE_DIR": str(state)})
        running.start("model.fast", 4)

        jobs = running.producer.submit_many([{"text": "I was charged twice for it"}] * 20)
        routings = [running.producer.wait(job.id, timeout=DEADLINE).routing for job in jobs]

        assert {(routing.route, routing.classifier) for routing in routings} == {("billing", "examples")}
        assert any((state / "classifiers").iterdir())
