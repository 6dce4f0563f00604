"""The admin's pages for import and export: upload, preview with differences, then all rows or none."""

from base64 import b64decode, b64encode
from collections.abc import Generator
from itertools import chain
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from import_export.admin import ImportExportMixin
from import_export.forms import ConfirmImportForm, ExportForm, ImportForm
from import_export.results import Result, RowResult
from import_export.tmp_storages import BaseStorage

from rooms.admin.files.concurrency import one_at_a_time
from rooms.admin.files.resource import FORMATS, RoomResource, RoomXLSX
from rooms.admin.files.tables import UNREADABLE_FILE
from rooms.admin.jobs.record import report
from rooms.admin.list_filters import filter_errors
from rooms.admin.locks import StaleVersionError, offer_retry_on_lock_timeout, retry_page
from rooms.admin.numbers import grouped
from rooms.api.errors import TooManyExports
from rooms.api.exports import STREAM_ROWS, streaming_cursor, with_slot
from rooms.columns import COLUMNS
from rooms.counting import count_queryset
from rooms.models import Room
from rooms.responses import streaming_response

MAX_FILE_SIZE = 5_000_000  # bytes; 10,000 rooms take about 1 MB

FileChunks = Generator[bytes, None, None]

UPLOAD_LIFETIME = 3600  # seconds between preview and confirmation


class UploadStorage(BaseStorage):
    """
    Stores an uploaded file between its preview and its confirmation as a session.

    All web processes share the database; `clearsessions` removes expired files.
    """

    def save(self, data: bytes) -> None:
        store = SessionStore()
        store["upload"] = b64encode(data).decode()
        store.set_expiry(UPLOAD_LIFETIME)
        store.create()
        self.name = store.session_key

    def read(self) -> bytes:
        return b64decode(SessionStore(self.name)["upload"])

    def remove(self) -> None:
        SessionStore(self.name).delete()


class UploadForm(ImportForm):
    """The file to import."""

    def clean_import_file(self) -> UploadedFile:
        file: UploadedFile = self.cleaned_data["import_file"]
        if (file.size or 0) > MAX_FILE_SIZE:
            raise ValidationError(gettext("Larger than 5 MB. Use ./manage.py import_rooms for larger files."))
        return file


class ConfirmForm(ConfirmImportForm):
    """The confirmation of a preview: the upload, and a fingerprint of the rooms that were shown."""

    format = forms.ChoiceField(
        choices=[(str(number), number) for number in range(len(FORMATS))], widget=forms.HiddenInput
    )
    resource = forms.ChoiceField(choices=[("0", 0)], widget=forms.HiddenInput, required=False)
    fingerprint = forms.CharField(widget=forms.HiddenInput)

    def clean_import_file_name(self) -> str:
        name: str = self.cleaned_data["import_file_name"]
        if not SessionStore(name).get("upload"):
            raise ValidationError(gettext("This upload is no longer there. Choose the file again."))
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

    @offer_retry_on_lock_timeout
    @one_at_a_time
    def import_action(self, request: HttpRequest, **kwargs: Any) -> Any:
        """The upload form, or (POST) the preview; a rejected file is not stored."""
        response = super().import_action(request, **kwargs)
        context = response.context_data
        context["fields_list"] = [("", COLUMNS)]  # the package leaves it empty where the form has errors
        upload = context["form"].files.get("import_file")
        if "confirm_form" not in context and hasattr(upload, "tmp_storage_name"):
            UploadStorage(name=upload.tmp_storage_name).remove()
        return response

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.import_template)
        return [path("import/template/", view, name="rooms_room_import_template"), *super().get_urls()]

    def import_template(self, request: HttpRequest) -> HttpResponse:
        """An empty workbook with the columns."""
        if not self.has_import_permission(request):
            raise PermissionDenied
        content = b"".join(RoomXLSX().stream([]))
        headers = {"Content-Disposition": 'attachment; filename="rooms.xlsx"'}
        return HttpResponse(content, RoomXLSX().get_content_type(), headers=headers)

    def add_data_read_fail_error_to_form(self, form: forms.Form, error: Exception) -> None:
        form.add_error("import_file", error if isinstance(error, ValidationError) else UNREADABLE_FILE)

    @offer_retry_on_lock_timeout
    @one_at_a_time
    def process_import(self, request: HttpRequest, **kwargs: Any) -> Any:
        """Import nothing, with a message, where the preview is no longer valid."""
        try:
            return super().process_import(request, **kwargs)
        except (StaleVersionError, IntegrityError):  # the latter: one of the codes was added meanwhile
            return self.reject_import(request)
        except ValidationError:  # another format than the one of the preview
            return self.reject_import(request, UNREADABLE_FILE)

    def process_result(self, result: Result, request: HttpRequest) -> HttpResponse:
        if result.has_errors() or result.has_validation_errors():
            return self.reject_import(request)
        return super().process_result(result, request)  # type: ignore[no-any-return]  # untyped package

    def reject_import(self, request: HttpRequest, reason: Any = "") -> HttpResponse:
        UploadStorage(name=request.POST["import_file_name"]).remove()
        sentences = [
            gettext("Nothing was imported."),
            reason or gettext("The rooms were changed since the preview."),
            gettext("Choose the file again for a new preview."),
        ]
        messages.error(request, " ".join(map(str, sentences)))
        return HttpResponseRedirect(reverse("admin:rooms_room_import"))

    def generate_log_entries(self, result: Result, request: HttpRequest) -> None:
        """Nothing: RoomResource.write has logged the changes."""

    def add_success_message(self, result: Result, request: HttpRequest) -> None:
        new, changed, same = (
            result.totals[kind]
            for kind in (RowResult.IMPORT_TYPE_NEW, RowResult.IMPORT_TYPE_UPDATE, RowResult.IMPORT_TYPE_SKIP)
        )
        text = ngettext(
            "Imported: %(new)s room added, %(changed)s changed, %(same)s unchanged.",
            "Imported: %(new)s rooms added, %(changed)s changed, %(same)s unchanged.",
            new,
        )
        numbers = {"new": grouped(new), "changed": grouped(changed), "same": grouped(same)}
        report(request, result.job, text % numbers)

    def get_export_filename(self, request: HttpRequest, queryset: QuerySet, file_format: Any) -> str:
        return f"rooms-{timezone.now():%Y-%m-%d}.{file_format.get_extension()}"

    @offer_retry_on_lock_timeout
    def export_action(self, request: HttpRequest) -> Any:
        """The export page, which says how many rooms it takes, or (POST) the file."""
        if not self.has_export_permission(request):
            raise PermissionDenied
        rooms = self.get_export_queryset(request)
        if filter_errors(request):
            return HttpResponseRedirect(request.get_full_path().replace("/export/", "/"))
        response = super().export_action(request)
        if hasattr(response, "context_data"):
            response.context_data["number"] = count_queryset(rooms)
        return response

    def _do_file_export(
        self, file_format: Any, request: HttpRequest, queryset: QuerySet[Room], export_form: Any = None
    ) -> Any:
        """The rooms as a file, streamed in constant memory."""
        filename = self.get_export_filename(request, queryset, file_format)
        chunks = stream(queryset, file_format)
        return self.send_file(request, chunks, file_format.get_content_type(), filename)

    def send_file(
        self: Any,
        request: HttpRequest,
        chunks: FileChunks,
        content_type: str,
        filename: str,
    ) -> Any:
        """A file that is streamed in one of the slots of the API's exports, or a page where none is free."""
        try:
            response = streaming_response(with_slot(chunks), content_type)
        except TooManyExports as error:
            return retry_page(
                request,
                self.admin_site,
                gettext("Other exports are under way"),
                gettext(
                    "As many exports are under way as this site streams at once. Try again in a few seconds."
                ),
                status=503,
                retry_after=int(error.headers["Retry-After"]),
            )
        response["Content-Disposition"] = f'attachment; filename="{filename}"'
        return response


def stream(queryset: QuerySet[Room], file_format: Any) -> FileChunks:
    """The file in chunks, read by a server-side cursor."""
    sql, values = queryset.values_list(*COLUMNS).query.sql_with_params()
    with streaming_cursor() as cursor:
        cursor.execute(sql, values)
        yield from file_format.stream(chain.from_iterable(iter(lambda: cursor.fetchmany(STREAM_ROWS), [])))
