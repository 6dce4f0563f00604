"""The admin's pages of users. Whoever has done something is not deleted: the history names people."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth import admin as auth
from django.contrib.auth.models import User
from django.db.models import Exists, OuterRef
from django.http import HttpRequest

admin.site.unregister(User)


@admin.register(User)
class UserAdmin(auth.UserAdmin):
    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Django would delete the entries of the history with their user; they protect the user instead."""
        own_entries = LogEntry.objects.filter(user_id=OuterRef("pk"))
        users = User.objects.filter(Exists(own_entries), pk__in=[user.pk for user in objs])
        protected = [f"the history of {user}: take “Active” from this user instead" for user in users]
        if protected:
            return [], {}, set(), protected
        return super().get_deleted_objects(objs, request)
