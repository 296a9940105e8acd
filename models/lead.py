"""Leads: callback requests from the site's form."""

from tortoise import fields

from ringback.models.enums import LeadStatus
from ringback.models.ids import Prefix, new_key
from ringback.models.tracking.registry import Tracking
from ringback.models.tracking.tracked import Tracked


class Lead(Tracked):
    """A callback request that became a lead."""

    id = fields.UUIDField(primary_key=True, default=new_key, description="The lead's id, lead_….")
    name = fields.CharField(max_length=200, description="Name as entered in the form.")
    phone = fields.CharField(max_length=64, description="Phone number as entered in the form.")
    status = fields.CharEnumField(
        LeadStatus, max_length=16, default=LeadStatus.NEW, description="NEW, IN_PROGRESS or DONE."
    )
    comment = fields.TextField(null=True, description="Note of the manager, null if there is none.")
    created_at = fields.DatetimeField(auto_now_add=True, description="When the callback was requested.")
    updated_at = fields.DatetimeField(auto_now=True, description="When the lead was last saved.")

    tracking = Tracking(
        name="lead",
        labels={"en": "Lead: callback request", "ru": "Лид: заказ обратного звонка"},
        description="A request to be called back. Requests are stored while the site setting trackLeads is on.",
        id_prefix=Prefix.LEAD,
        sample={
            "id": "lead_01h455vb4pex5vsknk084sn02q",
            "name": "Мария Иванова",
            "phone": "+7 900 000-00-00",
            "status": "NEW",
            "comment": None,
            "created_at": "2026-01-31T12:00:00.000000Z",
            "updated_at": "2026-01-31T12:00:00.000000Z",
        },
    )

    class Meta:
        table = "lead"
        app = "ringback"
