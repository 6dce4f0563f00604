"""The admin's pages for import and export: upload, preview with differences, all or nothing."""

import zipfile
from base64 import b64decode, b64encode
from math import inf
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.models import ADDITION, CHANGE
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from import_export.admin import ImportExportMixin
from import_export.forms import ConfirmImportForm, ExportForm, ImportForm
from import_export.results import Result, RowResult
from import_export.tmp_storages import BaseStorage

from rooms.admin import history
from rooms.admin.files import FORMATS, RoomResource
from rooms.admin.listing import count
from rooms.models import Room

LARGEST_FILE = 5_000_000  # bytes; 10,000 rooms take about 1 MB
LARGEST_UNPACKED = 50_000_000  # bytes of XML in a workbook
MOST_EXPORTED = 50_000
"""Rooms that an export through the admin takes; /rooms.csv streams any number."""

UPLOAD_LASTS = 3600  # seconds between preview and confirmation


class UploadStorage(BaseStorage):
    """
    An uploaded file between its preview and its confirmation, kept beside the sessions.

    In the database every web process finds it, wherever it runs; `clearsessions` removes what is old.
    """

    def save(self, data: bytes) -> None:
        store = SessionStore()
        store["upload"] = b64encode(data).decode()
        store.set_expiry(UPLOAD_LASTS)
        store.create()
        self.name = store.session_key

    def read(self) -> bytes | str:
        data = b64decode(SessionStore(self.name)["upload"])
        return data.decode(self.encoding) if self.encoding else data

    def remove(self) -> None:
        SessionStore(self.name).delete()


class UploadForm(ImportForm):
    """The file to import."""

    def clean_import_file(self) -> UploadedFile:
        file: UploadedFile = self.cleaned_data["import_file"]
        if (file.size or 0) > LARGEST_FILE:
            raise ValidationError("Larger than 5 MB. Use ./manage.py import_rooms for larger files.")
        if zipfile.is_zipfile(file) and unpacked_size(file) > LARGEST_UNPACKED:
            raise ValidationError("This is no workbook, or one that unpacks to more than 50 MB.")
        file.seek(0)
        return file


def unpacked_size(file: UploadedFile) -> float:
    """The bytes that a ZIP file says it unpacks to; infinite where it is broken."""
    try:
        return sum(part.file_size for part in zipfile.ZipFile(file).infolist())
    except zipfile.BadZipFile:
        return inf


class ConfirmForm(ConfirmImportForm):
    """The confirmation of a preview: which upload, and the state of the rooms that was shown."""

    format = forms.ChoiceField(
        choices=[(str(number), number) for number in range(len(FORMATS))], widget=forms.HiddenInput
    )
    resource = forms.ChoiceField(choices=[("0", 0)], widget=forms.HiddenInput, required=False)
    fingerprint = forms.CharField(widget=forms.HiddenInput)

    def clean_import_file_name(self) -> str:
        name: str = self.cleaned_data["import_file_name"]
        if not SessionStore(name).get("upload"):
            raise ValidationError("This upload is no longer there. Choose the file again.")
        return name


class SpreadsheetMixin(ImportExportMixin):
    """Import and export of rooms, for RoomAdmin."""

    resource_classes = [RoomResource]
    formats = FORMATS
    import_form_class = UploadForm
    confirm_form_class = ConfirmForm
    export_form_class = ExportForm
    tmp_storage_class = UploadStorage
    import_template_name = "admin/rooms/import.html"
    export_template_name = "admin/rooms/export.html"

    def get_import_data_kwargs(self, *, form: forms.Form, **kwargs: Any) -> dict[str, Any]:
        return {"import_form": form, "rollback_on_validation_errors": True}

    def get_confirm_form_initial(self, request: HttpRequest, import_form: Any) -> dict[str, Any]:
        initial: dict[str, Any] = super().get_confirm_form_initial(request, import_form)
        return initial | ({"fingerprint": import_form.fingerprint} if import_form else {})

    def add_data_read_fail_error_to_form(self, form: forms.Form, error: Exception) -> None:
        form.add_error(
            "import_file", "This is neither CSV in UTF-8 nor an XLSX workbook, whichever was chosen."
        )

    def process_import(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        """The rooms and their history are written in one transaction."""
        with transaction.atomic():
            return super().process_import(request, **kwargs)  # type: ignore[no-any-return]

    def process_result(self, result: Result, request: HttpRequest) -> HttpResponse:
        """What was right in the preview may be wrong now: then nothing is imported, and that is said."""
        if result.has_errors() or result.has_validation_errors():
            # The database's own word (a code was added meanwhile) is not for people.
            error = result.base_errors[0].error if result.base_errors else None
            reason = error.messages[0] if isinstance(error, ValidationError) else "The rooms were changed."
            messages.error(
                request, f"Nothing was imported. {reason} Choose the file again for a new preview."
            )
            return HttpResponseRedirect(reverse("admin:rooms_room_import"))
        return super().process_result(result, request)  # type: ignore[no-any-return]

    def generate_log_entries(self, result: Result, request: HttpRequest) -> None:
        rows = [row for row in result.rows if row.instance]
        added = [row.instance for row in rows if row.import_type == RowResult.IMPORT_TYPE_NEW]
        changed = [row for row in rows if row.import_type == RowResult.IMPORT_TYPE_UPDATE]
        history.log(request.user, ADDITION, ((room, "added by an import") for room in added))
        history.log(
            request.user,
            CHANGE,
            (
                (row.instance, f"{history.changes(row.original, row.instance)} (by an import)")
                for row in changed
            ),
        )

    def add_success_message(self, result: Result, request: HttpRequest) -> None:
        new, changed, same = (
            result.totals[kind]
            for kind in (RowResult.IMPORT_TYPE_NEW, RowResult.IMPORT_TYPE_UPDATE, RowResult.IMPORT_TYPE_SKIP)
        )
        messages.success(request, f"Imported: {new:,} rooms added, {changed:,} changed, {same:,} unchanged.")

    def get_export_filename(self, request: HttpRequest, queryset: QuerySet, file_format: Any) -> str:
        return f"rooms-{timezone.now():%Y-%m-%d}.{file_format.get_extension()}"

    def export_action(self, request: HttpRequest) -> HttpResponse:
        """The export page, or (POST) the file."""
        if request.method == "POST" and self.has_export_permission(request):
            refused = self.refuse_large_export(request, self.get_export_queryset(request))
            if refused:
                return refused
        return super().export_action(request)  # type: ignore[no-any-return]

    def refuse_large_export(self, request: HttpRequest, queryset: QuerySet[Room]) -> HttpResponse | None:
        number = count(queryset)
        if number <= MOST_EXPORTED:
            return None
        messages.error(
            request,
            f"These are {number.words}; a spreadsheet takes {MOST_EXPORTED:,} at once. "
            "Filter them into smaller groups; /rooms.csv streams any number.",
        )
        return HttpResponseRedirect(request.get_full_path().replace("/export/", "/"))

    def export_as(self, request: HttpRequest, queryset: QuerySet[Room], file_format: Any) -> HttpResponse:
        """The selected rooms as a file."""
        refused = self.refuse_large_export(request, queryset)
        return refused or self._do_file_export(file_format, request, queryset)
