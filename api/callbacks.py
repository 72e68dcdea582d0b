"""The `callback` of a submit: what can be judged before the job is stored."""

from api.requests import CallbackRequest
from fleet.contracts import Callback
from fleet.errors import UrlRefused, ValidationFailed
from fleet.outward import Outward
from fleet.webhook_keys import WebhookKeys


class Callbacks:
    def __init__(self, outward: Outward, keys: WebhookKeys) -> None:
        self._outward = outward
        self._keys = keys

    def checked(self, request: CallbackRequest | None) -> Callback | None:
        """No name is resolved here: that is done for every try. Raises ValidationFailed."""
        if request is None:
            return None
        if not self._keys.configured:
            message = (
                "this server sends no webhooks: its operator must set WEBHOOK_SECRETS, or leave out `callback` and "
                "follow the job by its events"
            )
            fault = {"detail": message, "pointer": "#/callback"}
            raise ValidationFailed(message, [fault], code="webhooks-not-configured")
        try:
            target = self._outward.check(request.url)
        except UrlRefused as error:
            fault = {"detail": error.message, "pointer": "#/callback/url"}
            raise ValidationFailed(error.message, [fault], code=error.code) from error
        return Callback(url=target.url, events=[event.value for event in request.events], body=request.body)
