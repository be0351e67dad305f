"""A payment's case closed by a person: what was done about it and who says so; after that the provider is not asked any more."""

from __future__ import annotations

from client.administering import whoever
from client.api import new_request_id
from client.tui.form import Asked, Form
from datastore.errors import InvalidRequest
from datastore.messages import CaseClosed, CaseInfo

WHO_MAX, WHY_MAX = 64, 200
DONE = {"capture": "taken", "refund": "given back", "cancel": "given up"}


class CloseCaseScreen(Form[CaseClosed]):
    """Dismissed with the answer; `closed` is False where the provider has done what was due after all."""

    heading = "Close a payment's case"
    yes = "Close it"
    HELP = """
    # Close a case
    Say what was done about the payment without the provider, and who says so; both stay in the ledger for ever, so name no traveller.
    **Enter** says what will be, **y** then closes it. The provider is asked once more first: where it has done what was due after all,
    nothing is closed.
    """

    def __init__(self, case: CaseInfo) -> None:
        super().__init__()
        self.case = case
        self._said = ("", "")
        self._request_id = ""

    def asked(self) -> list[Asked]:
        return [
            Asked("why", "What was done", "", "e.g. paid at the desk; name no traveller"),
            Asked("by", "Who says so", whoever()[:WHO_MAX]),
        ]

    def on_mount(self) -> None:
        super().on_mount()
        self.say(self._before() + "\n\nSay what was done about it; Enter says what will be. Esc leaves the case open.")

    def _before(self) -> str:
        case = self.case
        return (
            f"before: {case.due} of {case.amount} is due on {case.intent} (booking {case.reference or 'none'}, {case.operator}), and the "
            f"provider says: {case.why}"
        )

    async def check(self) -> str:
        why, by = self.value("why"), self.value("by")
        if not why:
            raise InvalidRequest("say what was done about it: it stays in the ledger beside the payment", field="why")
        if not by or len(by) > WHO_MAX or len(why) > WHY_MAX:
            raise InvalidRequest(f"a name of at most {WHO_MAX} characters, and what was done in at most {WHY_MAX}", field="by")
        if self._said != (why, by):
            # Other words are another request; the same ones again ask what became of it, where an answer was lost.
            self._said, self._request_id = (why, by), new_request_id()
        done = DONE.get(self.case.due, self.case.due)
        after = f"after: {self.case.amount} counts as {done} by hand ({by}: {why}); the provider is not asked any more"
        return f"{self._before()}\n{after}"

    async def act(self) -> CaseClosed:
        (why, by), desk = self._said, self.desk
        self.hint("the provider is asked once more …")
        return await self.host.ask(
            lambda client: client.close_payment_case(desk.admin_key(), self.case.intent, by, why, request_id=self._request_id)
        )
