// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

/// @title The tokens of one host: whoever holds one has access to its machine.
/// @notice Token ids count from 0 and are never reused; nothing is burnt. Times are Unix seconds, 0 = never.
///
/// Functions and events answer as version 0.5 in the field does, with an ERC-721 that is enumerable. Additions: the minter,
/// ERC-4906's events, two-step ownership. What answers differently: a contract need not implement onERC721Received to
/// get a token, as what is minted was paid for by its receiver; strings are escaped in the metadata; empty image and
/// animation are left out of it.
interface IAccessCredentialNFT {
    event CredentialMinted(uint256 indexed tokenId, address indexed recipient, uint256 issuedAt, uint256 expiresAt);
    event CredentialUpdated(uint256 indexed tokenId);
    /// @notice The wallet that mints beside the owner is another one from here on; zero = none.
    event MinterChanged(address indexed from, address indexed to);

    /// @notice Neither the owner nor the minter.
    error NotMinter(address caller);
    error ExpiryTooFar(uint256 expiresAt, uint256 max);
    /// @dev Part of the field's ABI, never thrown.
    error CredentialExpired(uint256 tokenId, uint256 expiresAt);
    /// @notice Without an owner no broker would recognise the host.
    error OwnerRequired();

    /// @notice Gives a new token to `to`. Only owner and minter. All texts and bytes together: at most 24,565 bytes.
    /// @param userEncrypted Connection details, readable only with the holder's signature of `publicSecret`.
    /// @param publicSecret What the holder signs to read them.
    /// @param description Shown by wallets. UTF-8, as all texts.
    /// @param imageUri Empty = the contract's default.
    /// @param animationUrlBase64 An HTML page in base64, empty = none.
    /// @param expiresAt At most 2^40-1.
    function mint(
        address to,
        bytes memory userEncrypted,
        string memory publicSecret,
        string memory description,
        string memory imageUri,
        string memory animationUrlBase64,
        uint256 expiresAt
    ) external returns (uint256 tokenId);

    /// @notice mint for each of as many recipients as there are elements in every list.
    function mintBatch(
        address[] memory recipients,
        bytes[] memory userEncrypted,
        string[] memory publicSecrets,
        string[] memory descriptions,
        string[] memory imageUris,
        string[] memory animationUrlsBase64,
        uint256[] memory expiresAt
    ) external returns (uint256[] memory tokenIds);

    /// @notice Replaces a token's connection details. Only owner and minter.
    function updateUserEncrypted(uint256 tokenId, bytes memory userEncrypted) external;

    /// @notice Replaces the time a token's access ends. Only owner and minter.
    function updateExpiration(uint256 tokenId, uint256 expiresAt) external;

    /// @notice Replaces a token's HTML page. Only the owner.
    function updateAnimationUrl(uint256 tokenId, string memory animationUrlBase64) external;

    /// @notice Replaces the image of all tokens that have none of their own. Only the owner.
    function setDefaultImageUri(string memory imageUri) external;

    /// @notice Lets another wallet mint and update beside the owner, in place of the one before; zero = none.
    /// Only the owner.
    function setMinter(address minter) external;

    function minter() external view returns (address);

    function defaultImageUri() external view returns (string memory);

    function getAccessData(uint256 tokenId)
        external
        view
        returns (bytes memory userEncrypted, string memory publicSecret, uint256 issuedAt, uint256 expiresAt);

    /// @notice Whether the token's access ended before now.
    function isExpired(uint256 tokenId) external view returns (bool);
}
