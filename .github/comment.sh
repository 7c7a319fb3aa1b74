#!/bin/sh
# comment.sh STACK FILE PR: keep one comment a stack on a pull request, found again by its first line, which GitHub does
# not show. Wants GH_TOKEN and GH_REPO in the environment.
set -eu
stack=$1 file=$2 pr=$3
mark="<!-- llama-chat preview of $stack -->"
# GitHub takes 65536 characters, and errors stand at the end
body=$(printf '%s\n### Preview of %s\n~~~~~~\n' "$mark" "$stack" && tail -c 60000 "$file" && printf '\n~~~~~~')
ours=".[] | select(.user.login == \"github-actions[bot]\" and (.body | startswith(\"$mark\"))) | .id"
listed=$(gh api --paginate "repos/{owner}/{repo}/issues/$pr/comments" --jq "$ours")
found=${listed%%[!0-9]*}
if [ -n "$found" ]; then
    gh api --silent --method PATCH "repos/{owner}/{repo}/issues/comments/$found" --raw-field body="$body"
else
    gh api --silent "repos/{owner}/{repo}/issues/$pr/comments" --raw-field body="$body"
fi
