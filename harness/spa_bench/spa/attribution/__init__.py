"""Attribution: scoring training examples against queries; see base.py."""
