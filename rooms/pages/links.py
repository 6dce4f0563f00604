"""Links to pages: what others append to them, and what a form leaves empty, is dropped by a redirect."""

from urllib.parse import urlencode

from django.http import HttpRequest

TRACKING = frozenset(
    {
        # Google: click identifiers of Ads and Search Console, Analytics' linker
        *(
            "gclid",
            "gclsrc",
            "dclid",
            "gbraid",
            "wbraid",
            "gad_source",
            "gad_campaignid",
            "srsltid",
            "_ga",
            "_gl",
        ),
        # Meta, Microsoft, X, TikTok, LinkedIn, Yandex, Pinterest, Snapchat, Reddit
        *("fbclid", "igshid", "igsh", "msclkid", "twclid", "ttclid", "li_fat_id", "yclid", "epik", "sccid"),
        "rdt_cid",
        # Mail: Mailchimp, HubSpot, Marketo, Klaviyo, Drip, Omeda, Vero, MailerLite
        *("mc_cid", "mc_eid", "_hsenc", "_hsmi", "__hssc", "__hstc", "__hsfp", "hsctatracking", "mkt_tok"),
        *("_kx", "__s", "oly_anon_id", "oly_enc_id", "vero_conv", "vero_id", "ml_subscriber"),
        "ml_subscriber_hash",
    }
)
"""
Parameters that others append to links, in lower case: those that Firefox strips of copied links
(toolkit/components/antitracking/data/StripOnShare.json) and its query stripping, and the click identifiers
that the advertising networks document.
"""

CAMPAIGN = ("utm_", "mtm_", "pk_")
"""How the parameters of campaigns begin: Google Analytics and most others, Matomo, Piwik."""


def is_tracking(name: str) -> bool:
    return name.lower() in TRACKING or name.lower().startswith(CAMPAIGN)


def clean_url(request: HttpRequest, form: bool = False) -> str:
    """
    The URL of this page without tracking parameters and, for one with a form, without its empty fields; empty
    where there are none of these.
    """
    given = [(name, text) for name, texts in request.GET.lists() for text in texts]
    kept = [(name, text) for name, text in given if not is_tracking(name) and not (form and not text)]
    if len(kept) == len(given):
        return ""
    return f"{request.path}?{urlencode(kept, safe=',:')}" if kept else request.path
