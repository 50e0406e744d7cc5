"""A publisher in Django: `publish()` sends once the transaction is committed, so
that nobody hears of what was rolled back.

    from isimud import publish            # this file, in your project

    def goal(request, match_id):
        with transaction.atomic():
            match = Match.objects.select_for_update().get(pk=match_id)
            match.home += 1
            match.save()
            publish(f"match/{match.pk}", {"home": match.home, "away": match.away})

settings.py: ISIMUD_URL = "http://127.0.0.1:3000", ISIMUD_PUBLISHER = "news",
ISIMUD_PASSWORD = os.environ["ISIMUD_PASSWORD"].
"""
import logging
import uuid

import requests
from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction

logger = logging.getLogger(__name__)
session = requests.Session()  # keeps the connection
TRIES = 3


def publish(topic, data, event=None, using=None):
    publication = {"topic": topic, "data": data}
    if event:
        publication["event"] = event
    # Encoded now: `data` may be changed before the commit.
    body = DjangoJSONEncoder().encode(publication).encode()
    transaction.on_commit(lambda: send(body), using=using)


def send(body):
    """Returns the receipt, {"id": …, "subscribers": …}; or None, and says why.
    The key makes it one publication, however often it is sent."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
    for _ in range(TRIES):
        try:
            answer = session.post(f"{settings.ISIMUD_URL}/pub", data=body, headers=headers, timeout=5,
                                  auth=(settings.ISIMUD_PUBLISHER.encode(), settings.ISIMUD_PASSWORD.encode()))
        except requests.RequestException as error:
            problem = error
            continue
        if answer.ok:
            return answer.json()
        problem = f"{answer.status_code} {answer.text}"
        if answer.status_code < 500:
            break
    logger.error("isimud: not published: %s", problem)
    return None
