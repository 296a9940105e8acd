from tests.support.program import Program


def test_program_answers(program: Program) -> None:
    assert program.query("{ siteSettings { trackLeads } }") == {"siteSettings": {"trackLeads": False}}
    assert program.request("GET", "/readyz")[0] == 200


async def test_database(database: object) -> None:
    from ringback.models.site_settings import SiteSettings

    assert (await SiteSettings.get(id=1)).track_leads is False
