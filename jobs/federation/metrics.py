"""What `jobs/federate` tells Prometheus."""

from typing import Final

from prometheus_client import Counter, Gauge

FACTS: Final = Counter("thalweg_federate_facts", "Facts of learning, by kind.", ["kind"])
REFUSED: Final = Counter("thalweg_federate_refused", "What was said and not obeyed, by rule.", ["rule"])
MEMBERS: Final = Gauge("thalweg_federate_members", "Participants of a run.", ["model"])
VERSION: Final = Gauge("thalweg_federate_version", "Newest version of a model.", ["model"])
